"""A training run's configuration: one YAML file, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.faces import CropRule
from trainer import TrainerError


class ConfigError(TrainerError):
    """The configuration is wrong; the message names file, key and remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Crop(_Section):
    """Size, margin and eye line as in `edge.faces.CropRule`."""

    size: int = Field(default=48, ge=32, le=128)
    margin: float = Field(default=2.5, gt=1, lt=6)
    eye_line: float = Field(default=0.38, gt=0, lt=1)

    def rule(self) -> CropRule:
        """Return it as the daemon's own type."""
        return CropRule(self.size, self.margin, self.eye_line)


class Architecture(_Section):
    """Width and depth of the compact residual network."""

    stem: int = Field(default=16, ge=4)
    stages: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 64, 96), min_length=1)
    blocks: int = Field(default=2, ge=1, description="residual blocks a stage")
    dropout: float = Field(default=0.3, ge=0, lt=1)


class Training(_Section):
    """How the weights are learned."""

    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_epochs: float = Field(default=2, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    average_momentum: float = Field(default=0.999, ge=0, lt=1, description="of the moving average of the weights")
    precision: Literal["float32", "mixed_bfloat16"] = "float32"


class Augmentation(_Section):
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


class Quantisation(_Section):
    """How the int8 network is calibrated."""

    faces: int = Field(default=400, ge=1, description="training faces in the representative set")


class Config(_Section):
    """One training run."""

    name: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    seed: int = 1
    variant: Literal["raw", "aligned"] = Field(
        default="aligned", description="the preparation the model's figures are for"
    )
    limit: int | None = Field(default=None, ge=16, description="use only so many training faces, for a trial")
    crop: Crop = Crop()
    architecture: Architecture = Architecture()
    training: Training = Training()
    augmentation: Augmentation = Augmentation()
    quantisation: Quantisation = Quantisation()


def load_config(path: Path) -> Config:
    """Read and check a configuration.

    Raises:
        ConfigError: the file is missing, no YAML, or has a wrong key or value.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name an existing configuration with --config") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: no text file; name a configuration with --config") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {mistakes}; configs/trainer/ferplus.yaml shows every key") from None
