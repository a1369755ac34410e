"""The config of a training: its recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vattn.base import LATER, Config, NoneOr, any_or_word
from vattn.files import at_home
from vattn.training.recipe.distill import DistillConfig
from vattn.training.recipe.optimizers import OptimizerConfig, SGDConfig
from vattn.training.recipe.schedules import CosineConfig, ScheduleConfig, WarmupConfig, scheduled

if TYPE_CHECKING:
    AnyOptimizer = OptimizerConfig
    AnySchedule = ScheduleConfig
else:
    AnyOptimizer, AnySchedule = any_or_word(OptimizerConfig), any_or_word(ScheduleConfig)


class RatesConfig(Config):
    """Factors on the learning rate of groups of parameters; a parameter of several groups has their product.

    Source of the groups: Wang, Xiong, Wang, Qiao, Lin, Tang and Van Gool, "Temporal Segment Networks: Towards Good
    Practices for Deep Action Recognition", ECCV 2016, and its code, where biases have 2, and the first convolution 5
    for optical flow. In the code of TSM (Lin, Gan and Han, ICCV 2019) the head has 5, so its bias 10.
    """

    new: float = Field(1.0, gt=0, description="factor of the parameters of mechanisms")
    head: float = Field(1.0, gt=0, description="factor of the parameters of the classifier")
    first: float = Field(1.0, gt=0, description="factor of the parameters of the convolutions that see the pixels")
    biases: float = Field(1.0, gt=0, description="factor of the biases of convolutions and linear layers")


class BalanceConfig(Config):
    """What is done about classes with unequal numbers of training clips.

    Source of the exponent: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR
    2020 (arXiv:1910.09217); there q is 1 - ``sampling``.
    """

    sampling: float = Field(
        0.0,
        ge=0,
        le=1,
        description="class-balanced sampling; a class with n clips gets a share of an epoch in proportion to "
        "n ** (1 - sampling). 0: each clip once; 0.5: by the square root of n; 1: all classes have the same share",
    )
    weights: float = Field(
        0.0,
        ge=0,
        le=1,
        description="class weights in the loss; a class with n clips has a weight in proportion to n ** -weights. "
        "0: none; 1: all classes have the same weight in total",
    )


class TrainConfig(Config):
    """How one model is trained. Together with the configs of model and data it determines the result of a run."""

    epochs: int = Field(ge=1, le=1_000_000, description="number of passes over the training clips")
    batch: int = Field(ge=1, le=1_000_000, description="clips per step, summed over all workers")
    optimizer: AnyOptimizer = Field(
        SGDConfig(), description="optimizer with its options, or the word of a kind: sgd, adamw"
    )
    lr: float = Field(gt=0, description="peak learning rate for `batch`; it is scaled only where lr_batch says so")
    lr_batch: Annotated[
        Literal["none"] | Annotated[int, Field(ge=1)],
        Field(
            description="number of clips of a step that lr is meant for: the peak rate is lr * batch / lr_batch; none: "
            "lr is that of batch",
            json_schema_extra=LATER,
        ),
    ] = "none"
    schedule: AnySchedule = Field(
        CosineConfig(),
        description="learning rate after the warm-up, or the word of a kind: cosine (to 0), constant, wsd",
    )
    warmup: WarmupConfig = Field(
        WarmupConfig(), description="rise of the learning rate at the start", json_schema_extra=LATER
    )
    rates: RatesConfig = Field(
        RatesConfig(), description="factors on the learning rate of groups of parameters", json_schema_extra=LATER
    )
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of the optimizer")
    decay_norms: bool = Field(
        True, description="whether norms and biases have the weight decay too", json_schema_extra=LATER
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each training label that is spread evenly over all classes; the losses of evaluations "
        "are those of the labels",
        json_schema_extra=LATER,
    )
    balance: BalanceConfig = Field(
        BalanceConfig(), description="classes with unequal numbers of clips", json_schema_extra=LATER
    )
    clip_norm: Annotated[
        Literal["none"] | Annotated[float, Field(gt=0)],
        Field(
            description="greatest norm of the gradient of all parameters together, in each step; a longer one is "
            "scaled to it",
            json_schema_extra=LATER,
        ),
    ] = "none"
    ema: Annotated[
        Literal["none"] | Annotated[float, Field(gt=0, lt=1)],
        Field(
            description="decay, at each step, of an exponential moving average of the weights, which is what is "
            "evaluated and saved; top1_plain is the accuracy of the plain weights. After t steps the decay is at most "
            "(1 + t) / (10 + t)",
            json_schema_extra=LATER,
        ),
    ] = "none"
    norm: Literal["train", "frozen", "partial", "sync"] = Field(
        "train",
        description="batch norms of the backbone; train: statistics of a worker's clips; sync: of the clips of all "
        "workers; frozen: the statistics of the initial weights, with scales and shifts that train; partial: only the "
        "first one trains, of the others nothing does. Norms of mechanisms always train, for sync as the others do",
        json_schema_extra=LATER,
    )
    freeze: tuple[int, ...] = Field(
        (),
        description="stages that keep their initial weights and statistics, with the mechanisms in them; 1 is the "
        "stem; each once",
        json_schema_extra=LATER,
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="number of parts into which each worker divides its clips of a step, to keep the activations of "
        "one part at a time; it divides the batch; without batch norm, the step is that of the whole batch",
        json_schema_extra=LATER,
    )
    amp: Literal["none", "bf16", "fp16"] = Field(
        "none",
        description="automatic mixed precision; none: float32, on GPUs with TF32; bf16: autocast to bfloat16; fp16: "
        "autocast to float16, with a loss scale that adapts",
    )
    compile: Literal["none", "default", "reduce-overhead"] = Field(
        "none",
        description="torch.compile; default: fused kernels; reduce-overhead: CUDA graphs too, for small networks; both "
        "change rounding",
        json_schema_extra=LATER,
    )
    deterministic: bool = Field(
        False,
        description="on GPUs, use deterministic kernels where torch has them; slower; CPUs always do",
        json_schema_extra=LATER,
    )
    recompute: Literal["none", "blocks"] = Field(
        "none",
        description="activation checkpointing; blocks: residual blocks and the stages of C3D keep only their input "
        "and are computed again in the backward pass; activation_mb is the value without it",
    )
    checkpoint_minutes: Annotated[
        Literal["none"] | Annotated[float, Field(gt=0)],
        Field(
            description="minutes between checkpoints within an epoch; none: only at the ends of epochs, see "
            "checkpoint_seconds"
        ),
    ] = 10.0
    checkpoint_seconds: float = Field(
        30.0,
        ge=0,
        description="greatest number of seconds between two checkpoints at the ends of epochs; they follow each other "
        "after 20 times the time that the last one took to write, or after this time, but not before an epoch ends. A "
        "training that is killed repeats the epochs since its last checkpoint",
        json_schema_extra=LATER,
    )
    init: str = Field(
        "scratch",
        description="initial weights; scratch: as configured by backbone.weights and by each mechanism; identity: the "
        "same, but every mechanism that can starts as the identity; or the absolute path of a state dict: layers that "
        "match are loaded, the others start as for identity",
    )
    distill: NoneOr[DistillConfig] = Field(
        "none", description="what is learned from a teacher beside the labels; or none", json_schema_extra=LATER
    )
    seed: int = Field(0, ge=0, description="seed of initial weights, order of clips, augmentation and dropout")

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: must divide batch, {self.batch} (got {self.accumulate})")
        return self

    @model_validator(mode="after")
    def _recomputed_blocks_are_not_compiled(self) -> Self:
        if self.compile != "none" and self.recompute != "none":
            raise ValueError(
                f"compile: the blocks of recompute: {self.recompute} cannot be compiled; write none for one of them "
                f"(got {self.compile})"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        begin = self.warmup.epochs
        if begin >= self.epochs:
            raise ValueError(f"warmup.epochs: must be below epochs, {self.epochs} (got {begin:g})")
        try:
            self.schedule.check(self.peak_lr, begin, self.epochs)
        except ValueError as error:
            raise ValueError(f"schedule.{error}") from None
        return self

    @model_validator(mode="after")
    def _synchronised_parts_agree(self) -> Self:
        if self.norm == "sync" and self.accumulate > 1:
            raise ValueError(
                "norm: sync needs the same number of parts on all workers, which the last step of an epoch may not "
                "have; write accumulate: 1, or another norm (got sync)"
            )
        return self

    @field_validator("freeze")
    @classmethod
    def _sorted_set(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(stages)) < len(stages):
            raise ValueError("names a stage twice; name each once")
        return tuple(sorted(stages))

    @field_validator("init")
    @classmethod
    def _word_or_absolute_path(cls, init: str) -> str:
        if init not in ("scratch", "identity") and not at_home(init).is_absolute():
            raise ValueError(
                "must be scratch, identity, or the absolute path of a state dict; in a search, search.inherit chooses "
                "one for each trial"
            )
        return init

    @property
    def peak_lr(self) -> float:
        """The peak learning rate of a step of ``batch`` clips."""
        return self.lr if self.lr_batch == "none" else self.lr * self.batch / self.lr_batch

    def lr_at(self, epoch: float) -> float:
        """Return the learning rate at ``epoch``, from 0 and with a fraction."""
        return scheduled(self.schedule, self.warmup, self.peak_lr, epoch, self.epochs)

    def canonical(self) -> Self:
        """Return an equal training in which each option without effect has its default."""
        update: dict[str, object] = {
            "schedule": self.schedule.canonical(self.epochs),
            "lr": self.peak_lr,
            "lr_batch": "none",
            # These change memory and time, but no result.
            "recompute": "none",
            "checkpoint_minutes": 10.0,
            "checkpoint_seconds": 30.0,
        }
        if not self.warmup.epochs:
            update["warmup"] = WarmupConfig()
        if not self.weight_decay:
            update["decay_norms"] = True
        if self.distill != "none":
            update["distill"] = self.distill.canonical()
        return self.model_copy(update=update)

    def uneven_parts(self, workers: int) -> str:
        """Return the rule that ``accumulate`` breaks with a number of workers; empty if it breaks none."""
        share = self.batch // workers
        return f"must divide a worker's share of train.batch, {share} clips" if share % self.accumulate else ""

    @property
    def weights(self) -> Path | None:
        """The state dict that training starts from, if any."""
        return None if self.init in ("scratch", "identity") else at_home(self.init)
