"""A Java library whose compiler is a persistent worker, for machines without Bazel's own."""

def _worker_impl(ctx):
    jar = ctx.actions.declare_file(ctx.label.name + ".jar")
    ctx.actions.run_shell(
        inputs = [ctx.file.src],
        outputs = [jar],
        command = "set -e; d=classes.tmp; mkdir $d; javac -d $d %s; jar -c --date=2000-01-01T00:00:00Z -f %s -C $d ." % (ctx.file.src.path, jar.path),
        env = {"PATH": "/usr/bin:/bin"},
    )
    return [DefaultInfo(files = depset([jar]))]

javac_worker = rule(
    implementation = _worker_impl,
    attrs = {"src": attr.label(allow_single_file = True)},
)

def _library_impl(ctx):
    jar = ctx.actions.declare_file(ctx.label.name + ".jar")
    served = ctx.actions.declare_file(ctx.label.name + ".served")
    flags = ctx.actions.args()
    flags.add(jar)
    flags.add(served)
    flags.add_all(ctx.files.srcs)
    flags.set_param_file_format("multiline")
    flags.use_param_file("@%s", use_always = True)
    ctx.actions.run(
        executable = "/usr/bin/java",
        arguments = ["-XX:TieredStopAtLevel=1", "-cp", ctx.file._worker.path, "JavacWorker", flags],
        tools = [ctx.file._worker],
        inputs = ctx.files.srcs,
        outputs = [jar, served],
        mnemonic = "TestJavac",
        execution_requirements = {"supports-workers": "1", "requires-worker-protocol": "proto"},
    )
    return [DefaultInfo(files = depset([jar, served]))]

java_lib = rule(
    implementation = _library_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".java"]),
        "_worker": attr.label(default = ":worker", allow_single_file = True, cfg = "exec"),
    },
)
