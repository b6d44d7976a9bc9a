"""`python -m cwm_jax VERB …`: each verb is one function in its package, imported when called."""

import importlib
import sys

from cwm_jax.tpu import libtpu

VERBS = {
    "trace": ("cwm_jax.tracing.cli", "main", "record what a program does"),
    "prepare": ("cwm_jax.training.prepare_cli", "main", "make data: traces of real code, packed rows, mixtures"),
    "train": ("cwm_jax.training.cli", "main", "train a model, or go on training it"),
    "export": ("cwm_jax.training.export", "main", "the weights of a run, adapters merged"),
    "convert": ("cwm_jax.checkpoints.convert", "main", "weights from one form to another"),
    "rl": ("cwm_jax.rl.cli", "main", "reinforce a policy in environments, asynchronously"),
    "bootstrap": ("cwm_jax.rl.bootstrap", "main", "rounds of rl, SFT on what passed there, rl again"),
    "predict": ("cwm_jax.worldmodel.cli", "main", "predict what a program does, without running it"),
    "debug": ("cwm_jax.worldmodel.debugger.cli", "main", "step through a program as predicted or as run; DAP server"),
    "halts": ("cwm_jax.worldmodel.halting.cli", "main", "whether a program halts, predicted and where possible proved"),
    "fill": ("cwm_jax.worldmodel.holes.cli", "main", "find expressions for the holes, ??, of a program"),
    "serve": ("cwm_jax.inference.server.cli", "main", "serve a model as the OpenAI API does"),
    "evaluate": ("cwm_jax.evaluation.cli", "main", "measure a trained model and write its report"),
    "compile": ("cwm_jax.tpu.cli", "main", "compile a train step for TPUs, without one: does it fit, how fast is it"),
    "plan": ("cwm_jax.tpu.cli", "plan", "plan reinforcement learning: chips of each role, pace, how old data is"),
}


def main(argv: list[str]) -> int:
    """Runs one verb; 2 for a bad call, 1 for a failure that the message explains, else what the verb returns."""
    if not argv or argv[0] not in VERBS:
        if argv and argv[0] not in ("-h", "--help"):
            print(f"there is no verb {argv[0]!r}", file=sys.stderr)
        lines = [f"  {verb:10} {what}" for verb, (_, _, what) in VERBS.items()]
        print("python -m cwm_jax VERB …\n\n" + "\n".join(lines) + "\n\npython -m cwm_jax VERB --help tells more")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    module, function, _ = VERBS[argv[0]]
    libtpu.keep_quiet()
    try:
        return getattr(importlib.import_module(module), function)(argv[1:])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except (ValueError, FileNotFoundError) as error:
        print(f"cwm_jax {argv[0]}: {error}", file=sys.stderr)
        return 2
    except (OSError, ArithmeticError) as error:  # a full disk, a training that diverged
        print(f"cwm_jax {argv[0]}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
