"""Small and old graphics cards: which builds still run on them, what they cannot compute, when they are full."""

# As the builds' own lists of architectures say; none of them was run on such a card.
BUILDS = {
    "torch": "PyTorch's own cu126 build with nvidia-cudnn-cu12<9.11",
    "jax": "jax[cuda12] with nvidia-cudnn-cu12<9.11",
    "tf": "tensorflow[and-cuda]==2.21 with nvidia-cudnn-cu12<9.11",
}
MODERN = (8, 0)  # the compute capability from which on there are units for bfloat16 and TF32


def old_card(backend: str) -> str:
    """What to install for a card that the usual build of a framework leaves out."""
    return f"for a card of compute capability 6.0 to 7.0 (GTX 1050, MX230: 6.1) install {BUILDS[backend]}"


def check_precision(precision: str, card: str, capability: tuple[int, ...] | str | None) -> None:
    """Raise ValueError for a precision that a card of this compute capability has no units for; None: not known."""
    if isinstance(capability, str):
        capability = tuple(map(int, capability.split(".")))
    if precision in ("bfloat16", "tf32") and capability is not None and capability < MODERN:
        raise ValueError(
            f"backend.precision is {precision}, but {card} has compute capability "
            f"{'.'.join(map(str, capability))}, and {precision} needs 8.0; set backend.precision=float32"
        )


def ran_out(error: BaseException) -> bool:
    """Whether an error is Python's own for want of memory, or says in XLA's or PyTorch's words that there was none."""
    words = ("RESOURCE_EXHAUSTED", "can't allocate memory")
    told = isinstance(error, RuntimeError) and any(each in str(error) for each in words)
    return isinstance(error, MemoryError) or told
