"""A rule whose action runs a program that is nowhere."""

def _missing_program_impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".txt")
    ctx.actions.run(
        mnemonic = "Missing",
        executable = "/no/such/program",
        arguments = [out.path],
        outputs = [out],
    )
    return [DefaultInfo(files = depset([out]))]

missing_program = rule(implementation = _missing_program_impl)
