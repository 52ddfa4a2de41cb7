"""A run of fit, validate, test or predict, and how it ends: by itself, by a signal or an error."""

import sys
from collections.abc import Sequence

from pne_seg.callbacks import Stopped
from pne_seg.cli.command import SegmentationCLI, this_rank
from pne_seg.cli.failures import Failing, is_out_of_memory, report
from pne_seg.cli.processes import end_other_processes, follow_first_process


def run(verb: str, args: Sequence[str]) -> SegmentationCLI:
    """Run a verb.

    Raises:
        SystemExit: code 2 after a mistake in the input, which is printed in a few lines; code 1
            where `predict` could not read or write a file; code 130 where the user stopped it.
    """
    command: SegmentationCLI | None = None
    follow_first_process(this_rank())
    try:
        command = SegmentationCLI(verb, args)
        command.start()
        return command
    except Stopped as stopped:
        if this_rank() == 0:
            print(stopped, file=sys.stderr)
        if command is not None:
            end_other_processes(command.trainer)
        raise SystemExit(stopped.code) from None
    except KeyboardInterrupt:
        if this_rank() == 0:
            prediction = command.prediction if command is not None else None
            print(prediction.stopped() if prediction else "Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        try:
            report(error, _failing(verb, command, error))
        finally:
            if command is not None:
                end_other_processes(command.trainer)
        raise


def _failing(verb: str, command: SegmentationCLI | None, error: Exception) -> Failing:
    elsewhere = "--output DIR" if verb == "predict" else "--trainer.default_root_dir DIR"
    if command is None:
        return Failing(verb, elsewhere=elsewhere)
    return Failing(
        verb,
        building=False,
        folder=command.run_folder,
        elsewhere=elsewhere,
        less_memory=command.less_memory(error) if is_out_of_memory(error) else "",
        workers=command.datamodule.num_workers,
    )
