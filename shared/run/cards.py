"""Old graphics cards: which builds of a framework still run on them, and what they cannot compute."""

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


def check_precision(precision: str, card: str, capability: tuple[int, ...] | None) -> None:
    """Raise ValueError for a precision that a card of this compute capability has no units for; None: not known."""
    if precision in ("bfloat16", "tf32") and capability is not None and capability < MODERN:
        raise ValueError(
            f"backend.precision is {precision}, but {card} has compute capability "
            f"{'.'.join(map(str, capability))}, and {precision} needs 8.0; set backend.precision=float32"
        )
