"""Rules whose actions make what genrule cannot: directories and symlinks."""

def _tree_impl(ctx):
    out = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        mnemonic = "Tree",
        outputs = [out],
        arguments = [out.path, str(ctx.attr.count)],
        command = """
            set -eu
            mkdir -p "$1/sub/deeper"
            for i in $(seq "$2"); do echo "leaf $i" > "$1/sub/leaf$i.txt"; done
            : > "$1/sub/deeper/empty"
            printf '#!/bin/sh\\necho ran from the tree\\n' > "$1/run.sh"
            chmod 755 "$1/run.sh"
        """,
    )
    return [DefaultInfo(files = depset([out]))]

tree = rule(
    doc = "A tree artifact: Bazel knows the directory, the action alone its contents.",
    implementation = _tree_impl,
    attrs = {"count": attr.int(default = 3)},
)

def _link_impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = out, target_file = ctx.file.target)
    return [DefaultInfo(files = depset([out]))]

link = rule(
    doc = "A symlink that Bazel itself makes; an action that reads it gets the file.",
    implementation = _link_impl,
    attrs = {"target": attr.label(allow_single_file = True, mandatory = True)},
)

def _dangling_impl(ctx):
    out = ctx.actions.declare_symlink(ctx.label.name)
    ctx.actions.run_shell(
        mnemonic = "Dangling",
        outputs = [out],
        arguments = [out.path, ctx.attr.target],
        command = 'ln -s "$2" "$1"',
    )
    return [DefaultInfo(files = depset([out]))]

dangling = rule(
    doc = "A symlink as the output of an action, to a target that need not exist.",
    implementation = _dangling_impl,
    attrs = {"target": attr.string(mandatory = True)},
)
