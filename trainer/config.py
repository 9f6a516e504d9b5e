"""A training run's configuration: one YAML file, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from typing_extensions import Self

from edge.faces import CropRule
from edge.section import Section
from edge.strict_yaml import StrictYamlError, compose, construct, read
from trainer import TrainerError


class ConfigError(TrainerError):
    """The configuration is wrong; the message names file, key and remedy."""


class _Finite(Section):
    """A section whose numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Data(_Finite):
    """What is learned from; `path` is relative to the folder of the data sets."""

    source: Literal["ferplus", "fer2013", "ck48", "ckplus", "folders"] = "ferplus"
    path: Path | None = Field(default=None, description="where it lies, if not under its own name")
    frames: int = Field(default=3, ge=1, description="ckplus: the last frames of a sequence, which take its label")
    neutral: bool = Field(default=True, description="ckplus: the first frame of a sequence counts as neutral")
    validation: float = Field(default=0.15, ge=0, lt=1, description="share, for data sets without splits of their own")
    test: float = Field(default=0.15, ge=0, lt=1, description="likewise")

    @model_validator(mode="after")
    def _leaves_faces(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing to train on; their sum has to be below 1")
        return self


class Crop(_Finite):
    """Size, margin and eye line as in `edge.faces.CropRule`, and whether the network sees colour."""

    size: int = Field(default=48, ge=32, le=128)
    margin: float = Field(default=2.5, gt=1, lt=6)
    eye_line: float = Field(default=0.38, gt=0, lt=1)
    colour: Literal["grey", "rgb"] = "grey"

    def rule(self) -> CropRule:
        """Return it as the daemon's own type."""
        return CropRule(self.size, self.margin, self.eye_line)

    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the network's input: height, width, channels."""
        return self.size, self.size, 1 if self.colour == "grey" else 3


#: Keys that an architecture cannot use: LeNet's depth is the number of its stages.
UNUSED = {
    "lenet": ("stem", "blocks"),
    "vgg": ("stem",),
    "recognition": ("stem", "stages", "blocks"),
    "faceres": ("stem", "blocks"),
}
#: A stage of it is a separable convolution.
FACERES_STAGES = 13


class Architecture(_Finite):
    """Which network, how wide and deep; what is left out takes the value of that network's own file."""

    kind: Literal["compact", "lenet", "vgg", "resnet", "inception", "mobilenet", "recognition", "faceres"] = "compact"
    stem: int | None = Field(default=None, ge=1, description="channels of the first convolution, where there is a stem")
    stages: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, min_length=1, description="channels of each stage"
    )
    blocks: int | None = Field(default=None, ge=1, description="blocks a stage: the depth")
    width: float = Field(default=1, gt=0, le=8, description="multiplies all channels")
    activation: Literal["relu", "relu6", "leaky_relu", "hard_swish", "tanh"] | None = None
    dropout: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for key in UNUSED.get(self.kind, ()):
            if getattr(self, key) is not None:
                raise ValueError(f"{self.kind} has no {key}; leave the key out")
        if self.kind == "faceres" and len(self.stages or ()) > FACERES_STAGES:
            raise ValueError(f"faceres has {FACERES_STAGES} stages at most; leave out the rest")
        return self


class Distillation(_Finite):
    """Part of the target comes from teachers (Hinton et al., arXiv:1503.02531)."""

    soft_labels: Path | Annotated[tuple[Path, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="file that `emotion-trainer teach` wrote, or several, whose mean is taken; if left out, and "
        "`teachers` too, what `train --teacher` wrote",
    )
    teachers: Annotated[tuple[Path, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="model files that are asked about each face as it is drawn for training (arXiv:2106.05237); each "
        "counts as much as one file of soft labels",
    )
    calibrated: bool = Field(
        default=True,
        description="teachers: answers as their files calibrate them, by labels; false: as they were learned, softer, "
        "which is what soft labels are",
    )
    share: float = Field(default=0.7, ge=0, le=1, description="of the target; the rest are the labels")
    temperature: float = Field(default=1, gt=0, description="softens the teachers' probabilities")

    def shares(self) -> tuple[float, float]:
        """Return the shares of the target that stored soft labels have, and teachers asked about each face."""
        asked, stored = len(self.teachers or ()), len(self.files())
        if not asked:
            return self.share, 0
        return self.share * stored / (asked + stored), self.share * asked / (asked + stored)

    def files(self) -> tuple[Path, ...]:
        """Return the files of `soft_labels`."""
        return (self.soft_labels,) if isinstance(self.soft_labels, Path) else self.soft_labels or ()


class Training(_Finite):
    """How the weights are learned."""

    epochs: int = Field(default=50, ge=1)
    minutes: float | None = Field(default=None, gt=0, description="no epoch is begun after so much time")
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = Field(default="adamw", description="sgd has Nesterov momentum 0.9")
    learning_rate: float = Field(default=2e-3, gt=0, description="the highest")
    schedule: Literal["cosine", "linear", "constant"] = Field(default="cosine", description="after the warm-up, to 0")
    warmup_epochs: float = Field(default=2, ge=0)
    weight_decay: float = Field(
        default=0.05, ge=0, description="of kernels; decoupled, but with adam a part of the gradient (then take less)"
    )
    logit_adjustment: float = Field(
        default=0,
        ge=0,
        le=2,
        description="finally the logit of each class with a share below adjust_below rises by this times the log "
        "of adjust_below over its share, which favours the rare ones (arXiv:2007.07314)",
    )
    adjust_below: float = Field(
        default=1, gt=0, le=1, description="share of a class, of those that are adjusted; 1: all are, as in the paper"
    )
    logit_shifts: dict[str, Annotated[float, Field(ge=-20, le=20)]] = Field(
        default={}, description="class → what is finally added to its logit, beside the adjustment; for single classes"
    )
    average_momentum: float = Field(
        default=0.999, ge=0, lt=1, description="of the moving average of the weights; 0: none"
    )
    average_switch: bool = Field(
        default=True, description="each epoch goes on from the moving average (arXiv:2402.09240), not from its own end"
    )
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    mixup: float = Field(default=0, ge=0, description="alpha of its beta distribution (arXiv:1710.09412); 0: none")
    mixup_each: bool = Field(
        default=False, description="each face is blended by a share of its own, not a batch by one"
    )
    class_weights: float = Field(
        default=0, ge=0, le=1, description="each class counts with its frequency to the power of minus this, mean 1"
    )
    patience: int | None = Field(default=None, ge=1, description="stop early after so many epochs without a better one")
    keep: Literal["best", "last"] = Field(default="best", description="the weights of which epoch")
    start: Path | None = Field(
        default=None,
        description=".keras file whose weights are where training starts; may have more channels and layers",
    )
    distillation: Distillation | None = None
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="gpu: refuse to train without one")


class Augmentation(_Finite):
    """What training faces go through, each drawn anew every epoch."""

    aligned_share: float = Field(
        default=0.8, ge=0, le=1, description="of the faces aligned by the eyes, the rest as stored"
    )
    rotation: float = Field(default=10, ge=0, description="± degrees")
    scale: float = Field(default=0.12, ge=0, lt=1, description="± fraction")
    shift: float = Field(default=0.07, ge=0, lt=1, description="± fraction of the side")
    gamma: float = Field(default=1.6, ge=1, description="from 1/gamma to gamma")
    contrast: float = Field(default=0.3, ge=0, lt=1, description="± fraction")
    brightness: float = Field(default=0.15, ge=0, lt=1, description="± fraction of the range")
    blur_share: float = Field(
        default=0.15, ge=0, le=1, description="of the faces shrunk by up to two and enlarged again"
    )
    noise: float = Field(default=4, ge=0, description="largest standard deviation, grey levels")
    erase_share: float = Field(default=0.4, ge=0, le=1, description="of the faces with an erased rectangle")


class Quantisation(_Finite):
    """How the int8 network is calibrated."""

    faces: int = Field(default=400, ge=1, description="training faces in the representative set")


class Config(_Finite):
    """One training run."""

    name: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    seed: int = Field(default=1, ge=0, lt=2**32)
    variant: Literal["raw", "aligned"] = Field(
        default="aligned", description="the preparation the model's figures are for"
    )
    limit: int | None = Field(default=None, ge=16, description="use only so many training faces, for a trial")
    folds: int = Field(default=10, ge=2, description="of `emotion-trainer folds`")
    data: Data = Data()
    crop: Crop = Crop()
    architecture: Architecture = Architecture()
    training: Training = Training()
    augmentation: Augmentation = Augmentation()
    quantisation: Quantisation = Quantisation()


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        path: the YAML file.
        overrides: `KEY=VALUE` as given to `--set`: a dotted key and a YAML value, such as `training.epochs=3`.

    Raises:
        ConfigError: the file is missing, no YAML, or has a wrong key or value; or an override has.
    """
    try:
        content = read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name an existing configuration with --config") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: no text file; name a configuration with --config") from None
    except StrictYamlError as error:
        raise ConfigError(str(error)) from None
    where = " ".join([str(path), *(f"--set {each}" for each in overrides)])
    if overrides:
        content = _with(content, dict(map(_override, overrides)), where)
    return _checked(content, where)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with other values of some dotted keys, such as `{"training.epochs": 3}`.

    Raises:
        ConfigError: a key or value is wrong.
    """
    where = ", ".join(f"{key}={value}" for key, value in changes.items())
    return _checked(_with(config.model_dump(), changes, where), where)


def with_teachers(config: Config) -> Config:
    """Return a configuration that learns from the teachers named on the command line.

    Raises:
        ConfigError: it learns from others already.
    """
    settings = config.training.distillation or Distillation()
    if settings.soft_labels:
        raise ConfigError(
            f"training.distillation.soft_labels: {', '.join(map(str, settings.files()))}: what teachers answered; "
            "leave out the key or --teacher"
        )
    if settings.teachers:
        raise ConfigError(
            "training.distillation.teachers: are asked about each face as it is drawn, those of --teacher once; leave "
            "out the key or --teacher"
        )
    return changed(config, {"training.distillation": settings.model_dump()})


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: no KEY=VALUE; write for example --set training.epochs=3")
    try:
        return key.strip(), construct(compose(value, Path("value")), Path("value"))
    except StrictYamlError as error:
        raise ConfigError(f"--set {text}: no YAML value: {str(error).partition(': ')[2]}") from None


def _with(content: Any, changes: Mapping[str, Any], where: str) -> Any:
    """Return nested mappings with other values at dotted keys; a section that is not there yet is put in."""
    for key, value in changes.items():
        first, _, rest = key.partition(".")
        content = {} if content is None else content
        if not isinstance(content, dict):
            raise ConfigError(f"{where}: {key}: there is no such key; configs/trainer/ckplus.yaml shows every key")
        content = {**content, first: _with(content.get(first), {rest: value}, where) if rest else value}
    return content


def reason(mistake: ErrorDetails) -> str:
    """Say what is wrong with the value of a key."""
    plain = {"extra_forbidden": "no such key", "model_type": "must be keys and values"}
    return plain.get(mistake["type"]) or mistake["msg"].removeprefix("Value error, ")


def _checked(content: Any, where: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {reason(e)}" for e in error.errors())
        raise ConfigError(f"{where}: {mistakes}; configs/trainer/ckplus.yaml shows every key") from None
