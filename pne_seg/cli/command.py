"""fit, validate, test and predict: from settings to a finished run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from pne_seg.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    ExactResume,
    Figures,
    FiniteTraining,
    ImageScores,
    LabeledPixels,
    LastCheckpoint,
    RunPage,
    StopOnSignal,
    Stopped,
    Summary,
    SuspectLabels,
)
from pne_seg.callbacks.progress import device_name, terminal_callbacks
from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.cli import checks, loggers, predict, program, trainer_checks
from pne_seg.cli.arguments import DEFAULT_SEED, DESCRIPTIONS, EMA_HELP, LOGGER_HELP, flags
from pne_seg.cli.changed_settings import changed_settings
from pne_seg.cli.evaluation import plan_evaluation
from pne_seg.cli.failures import is_out_of_memory, misfit
from pne_seg.cli.parser import Parser
from pne_seg.cli.settings import Settings
from pne_seg.cli.start import checkpoint_to_resume, run_name, weights_to_score
from pne_seg.data import SegmentationDataModule
from pne_seg.description import check_same_classes
from pne_seg.errors import UserError
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import SegmentationModule
from pne_seg.networks.slot import CLASS_COUNTS, PRETRAINED
from pne_seg.prediction.prediction_run import PredictionRun
from pne_seg.runs import BEST, RUNS, Evaluated, check_run_name
from pne_seg.settings_files import parse_yaml
from pne_seg.suspects import SuspectSearch
from pne_seg.tracking import log_settings
from pne_seg.weight_loading import fill_network

_CHECKPOINTS = {"best_checkpoint": BestCheckpoint, "last_checkpoint": LastCheckpoint}
_CALLBACKS = {"figures": Figures, **_CHECKPOINTS}  # of every run


class _Parser(Parser, LightningArgumentParser):
    """The parser for LightningCLI."""


class SegmentationCLI(LightningCLI):
    """LightningCLI for one verb, with this project's rules for settings, data and run folders."""

    def __init__(self, verb: str, args: Sequence[str]) -> None:
        self.verb = verb
        self.settings = Settings.of(args)
        self.run_folder: Path | None = None  # where the verb writes, but for a dry run
        self.evaluated: Evaluated | None = None  # what an evaluation scores
        self.checkpoint: Path | None = None  # to start from; None for weights from elsewhere
        self.prediction: PredictionRun | None = None
        if verb == "fit":
            self.checkpoint = checkpoint_to_resume(self.settings, rank_zero_info)
            check_run_name(run_name(self.settings))
        elif evaluated := weights_to_score(self.settings, rank_zero_info, verb):
            self.evaluated = evaluated
            self.checkpoint = evaluated.file if evaluated.source is None else None
        self.name = run_name(self.settings)
        if verb == "predict":
            self.output = predict.take_input(self.settings, self.evaluated)
        super().__init__(
            SegmentationModule,
            SegmentationDataModule,
            subclass_mode_data=True,
            run=False,  # one parser for the one verb, in place of one for each
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            save_config_callback=None,  # the run folder is this project's own
            seed_everything_default=DEFAULT_SEED,
            trainer_defaults={"log_every_n_steps": 10},
            parser_class=_Parser,
            parser_kwargs={"prog": f"{program()} {verb}", "description": DESCRIPTIONS[verb]},
            args=self.settings.arguments(),
        )

    @property
    def metrics(self) -> SegmentationMetrics | None:
        """The metrics of the evaluation, or of a training's best epoch."""
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        summary = next((one for one in callbacks if isinstance(one, Summary)), None)
        return summary.metrics if summary is not None else None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to every run, and let the data decide the classes."""
        for flag, description in flags(self.verb).items():
            parser.add_argument(f"--{flag}", type=str | None, help=description)
        if self.verb == "predict":
            predict.add_arguments(parser)
        parser.add_argument("--logger", type=str | list[str] | None, help=LOGGER_HELP)
        parser.add_argument("--ema", type=EMAWeightAveraging | None, help=EMA_HELP)
        for key, callback in _CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
        parser.add_class_arguments(SuspectSearch, "suspects")
        targets = {f"model.{name}": name for name in checks.FROM_DATA}
        targets |= {f"model.network.init_args.{name}": "num_classes" for name in CLASS_COUNTS}
        for target, name in targets.items():
            read = checks.reader(name, self.verb)
            parser.link_arguments("data", target, read, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, with messages that name the setting."""
        assert isinstance(parser, Parser)
        checks.check_groups(self.settings, ("trainer", "model", "suspects", *_CALLBACKS))
        loggers.set_defaults(self.settings)
        self.config = parser.parse(self.settings)
        if self.verb == "fit":
            self.config["logger"] = loggers.words_of(self.settings) or None
        self.config.pop("allow", None)  # holds only for this command

    def instantiate_classes(self) -> None:
        """Build data, network and trainer."""
        if not self.config.get("data.class_path"):
            raise UserError("Missing: data. Give a --config file that sets it, or --data CLASS.")
        checks.check_numbers(self.config.as_dict())
        self.config["name"] = self.name
        self._as_written = self.config.clone()  # what the run's folder keeps
        given = self.config["trainer.logger"]
        self._loggers = _as_list(given) if not isinstance(given, bool) else []
        self.config["trainer.logger"] = None  # they need the run's folder
        if self.checkpoint is not None or self.evaluated is not None:
            for key in (f"model.network.init_args.{name}" for name in PRETRAINED):
                if self.config.get(key) is not None:
                    self.config[key] = None  # the checkpoint overwrites these weights
        network = self.config["model.network"].as_dict()
        if dropped := checks.dropped_setting(network, self.config["data"].as_dict()):
            raise UserError(dropped)
        try:
            with self.settings.enforced():
                super().instantiate_classes()
        except Exception as error:
            if reason := checks.build_error(error, network):
                raise reason from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Check the data, then build the trainer with what every run carries."""
        # Before a folder is made for a run that cannot start.
        checks.check_against_data(self.settings, self.datamodule)
        config = {**self.config_init["trainer"], **kwargs}
        checks.check_processes(self.datamodule, config)
        trainer_checks.check_trainer(self.verb, config)
        names = self.datamodule.class_names
        if self.checkpoint is not None:
            check_same_classes(names, read_checkpoint(self.checkpoint), self.checkpoint)
        if self.evaluated is not None and self.evaluated.source is not None:
            rank_zero_info(str(fill_network(self.model.network, self.evaluated.source, names)))
        self.datamodule.prepare_data()
        self.datamodule.setup(self.verb)
        writes = not config["fast_dev_run"]
        if self.verb == "fit":
            schedule = checks.check_training(self.model, self.datamodule, config)
            config["logger"] = False if writes else None  # a run's need its folder
            callbacks = self._training_callbacks(config)
        else:
            config |= {"logger": False, "enable_checkpointing": False}
            callbacks = self._evaluation_callbacks(writes)
        given = _as_list(config.get("callbacks"))
        config["callbacks"] = [*given, *terminal_callbacks(config, given), *callbacks]
        config["plugins"] = [*_as_list(config.get("plugins")), AtomicCheckpointIO()]
        trainer = Trainer(**config)
        if self.verb == "fit":
            trainer_checks.check_built(trainer, self.model, self.datamodule, schedule)
            if writes:  # only now: a training that cannot begin leaves no folder
                trainer.loggers = self._open_run()
                for one in callbacks:
                    if hasattr(one, "folder"):
                        one.folder = self.run_folder
        rank_zero_info(f"Device: {device_name(trainer)}")
        return trainer

    def _training_callbacks(self, config: dict[str, Any]) -> list[Callback]:
        callbacks = [FiniteTraining(), LabeledPixels(), *_as_list(self.config_init["ema"])]
        callbacks += [*self._reporting(), ExactResume()]
        if config["fast_dev_run"] or config["enable_checkpointing"] is False:
            return [*callbacks, StopOnSignal(None)]
        last = self.config_init["last_checkpoint"]
        return [*callbacks, self.config_init["best_checkpoint"], last, StopOnSignal(last)]

    def _evaluation_callbacks(self, writes: bool) -> list[Callback]:
        assert self.evaluated is not None
        label = self.model.scorer.inference.label
        if self.verb != "predict":
            planned = plan_evaluation(self.verb, self.evaluated, self.config.as_dict(), label)
            self.run_folder, origin = planned if writes else (None, planned[1])
            return [LabeledPixels(), *self._reporting(origin)]
        if not writes:
            return []
        self.run_folder = self.output or self.evaluated.output(self.verb, label)
        write_is_given = self.settings.get("write") is not None
        self.prediction = predict.prepare(
            self.config, self.datamodule, self.evaluated.file, self.run_folder, write_is_given
        )
        return [self.prediction]

    def _reporting(self, origin: dict[str, Any] | None = None) -> list[Callback]:
        figures, summary = self.config_init["figures"], Summary()
        summary.origin = origin or {}
        figures.folder = summary.folder = self.run_folder
        if self.verb == "validate":
            return [summary, figures]
        images = ImageScores(min(figures.num_images, 4))
        suspects = SuspectLabels(self.config_init["suspects"], figures.num_images)
        images.folder = suspects.folder = self.run_folder
        page = RunPage(figures, summary, images, suspects)
        if self.verb == "fit":
            page.folder = self.run_folder
            page.about = {"name": self.name, "seed": self.config["seed_everything"]}
            written, defaults = self._as_written, self.parser.get_defaults
            page.settings = lambda: changed_settings(written.as_dict(), defaults().as_dict())
        elif self.run_folder and self.evaluated and summary.origin.get("same_data"):
            # Of the weights that the page is about.
            page.folder = self.evaluated.folder if self.evaluated.name == BEST.stem else None
        return [summary, figures, images, suspects, page]

    def _open_run(self) -> list[Logger]:
        """Make the run's folder and describe the run there; return its loggers."""
        root = Path(self.config_init["trainer"]["default_root_dir"] or ".")
        words = self.config_init["logger"] or []
        if this_rank() != 0:  # learns the folder from the first process, by Lightning's broadcast
            others = [DummyLogger() for _ in [*words, *self._loggers]]
            return [CSVLogger(root / RUNS, name=self.name, version="0"), *others]
        config = self.parser.dump(self._as_written, skip_unset=False)
        run, logger = loggers.open_run(root, self.name, config)
        self.run_folder = run.folder
        rank_zero_info(f"Run: {run.folder}")
        trackers = loggers.open_loggers(words, self._loggers, run, self.name, self.settings.imports)
        log_settings(trackers, parse_yaml(config, str(run.config)))
        return [logger, *trackers]

    def start(self) -> None:
        """Run the verb; leave with code 1 if a file could not be predicted."""
        options: dict[str, Any] = {
            "datamodule": self.datamodule,
            "ckpt_path": str(self.checkpoint) if self.checkpoint else None,
            "weights_only": True,  # a checkpoint may come from anywhere: it must not run code
        }
        if self.verb in ("validate", "test"):
            options["verbose"] = False  # the summary prints the table
        prediction = self.prediction
        if self.verb == "predict":
            options["return_predictions"] = False  # they would fill the memory
        if prediction is not None:
            options["datamodule"] = prediction.remaining()
        try:
            if prediction is None or prediction.left:
                getattr(self.trainer, self.verb)(self.model, **options)
        except UserError:
            raise
        except Exception as error:
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
            stop = next((found for found in callbacks if isinstance(found, StopOnSignal)), None)
            if stop is not None and stop.signum and self.trainer.world_size > 1:
                # A process that stopped in a validation leaves the others without a partner.
                raise Stopped(stop.signum, self.trainer.global_step, None) from error
            loading = bool(self.trainer._checkpoint_connector._loaded_checkpoint)
            if not loading or is_out_of_memory(error) or isinstance(error, OSError):
                raise
            # Lightning holds the checkpoint's content until all of it has been taken over.
            raise UserError(misfit(self.checkpoint, error)) from error
        except SystemExit as leaving:
            if isinstance(leaving.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from leaving  # Lightning leaves with code 1
            raise
        finally:
            loggers.close_loggers(self.trainer.loggers, self.trainer.state.finished)
        if prediction is not None and this_rank() == 0:
            prediction.finish()
        if self.run_folder is not None:
            rank_zero_info(f"Written to {self.run_folder}")
        if prediction is not None and (prediction.unreadable or prediction.unwritten):
            raise SystemExit(1)


def this_rank() -> int:
    """Return this process's rank in a distributed run, before the processes are connected."""
    return int(getattr(rank_zero_only, "rank", 0))


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
