"""Why the three implementations differ, for the Rosetta page: by file, and by function where there is more to say."""

SAME = "The same in all three."
FILES = {  # in the order of the page: from the device to the results
    "device": "each framework has its own devices, threads, precision and compiler to be told of",
    "keys": "random bits are computed by hand in each, since no two frameworks draw the same ones",
    "views": "images are resampled by hand in each, since the frameworks' own samplers round otherwise",
    "layers": "the same sums, by whatever each framework computes fastest and to the last bits alike",
    "network": "layers are run one after the other; what differs is how each casts and differentiates",
    "module": "the network as each framework's users expect it: a Keras model, a torch.nn module, a Flax module",
    "likelihood": "the same formulas; only the names of the functions differ",
    "train": "weights change in place in two frameworks; in JAX a step gives new ones",
    "predict": "each framework turns off gradients, and gets arrays back, in its own way",
    "acquisition": "the same scores; loops are written as each framework compiles them",
    "walks": "the same sums over a tree of questions; loops as each framework compiles them",
    "weights": "arrays are kept in one order of axes, and turned to each framework's own",
    "workers": "each framework has its own way to add gradients between processes",
}
REASONS = {
    "network.encode": "PyTorch lowers the precision within autocast; TensorFlow and JAX cast the input, and every "
    "layer follows it.",
    "network.compute": "On a CPU, XLA would fuse all layers and compute activations anew for every use, so JAX calls "
    "each layer as a program of its own.",
    "network.again": "Each framework has its own way to define a gradient: a custom_gradient in TensorFlow, an "
    "autograd.Function in PyTorch, a custom_vjp in JAX.",
    "layers.conv": "The same; see convolve.",
    "layers.conv_relu_pool": "PyTorch runs operations one by one, so bias and ReLU after the pool save three quarters "
    "of their work; the compilers of the other two fuse them anyway.",
    "layers.convolve": "Each library is slow somewhere else: small images and 1x1 kernels are products of matrices "
    "where that is quicker. PyTorch's images are turned, channels first, as it wants them.",
    "layers.dropout": "Masks come from keys, not from a framework's generator, so that all three drop the same units.",
    "layers.batch_norm": "PyTorch gives a batch's moments only as running ones, so it is asked for a momentum of 1.",
    "likelihood.votes_nll": "The same; the frameworks name their functions otherwise.",
    "train.sums": "Three ways to a gradient: TensorFlow records a tape, PyTorch asks the graph that it kept, JAX "
    "transforms the function.",
    "train.step": "TensorFlow assigns to variables and PyTorch copies into tensors; JAX cannot change an array, so "
    "the dictionary gets new ones.",
    "train.adam": "PyTorch's _foreach operations are one kernel for all arrays; the compilers of the other two fuse "
    "the plain formula.",
    "train.programs": "Many steps in one call: a loop of tf.function's graph, a Python loop that a CUDA graph "
    "records, and a scan.",
    "train.init": "PyTorch's tensors must be told that gradients are wanted of them.",
    "train.over_shards": "Sums are added in one order in all three, so that a compiler's loop is needed where one "
    "would change it.",
    "train.train_steps": "In JAX the state comes back from the call; in the others the call has changed it.",
}
LESSON: dict[
    str, dict[str, tuple[str, ...]]
] = {  # the rows that begin the page, and what plain programs have there
    "network.encode": {
        "keras": ("network",),
        "plain_torch": ("network",),
        "plain_flax": ("Network", "Network.__init__", "Network.__call__"),
    },
    "network.compute": {},
    "layers.conv_relu_pool": {},
    "layers.dropout": {},
    "likelihood.votes_nll": dict.fromkeys(("keras", "plain_torch", "plain_flax"), ("votes_nll",)),
    "train.sums": {},
    "train.step": dict.fromkeys(("keras", "plain_torch", "plain_flax"), ("learning",)),
    "train.adam": {},
    "train.programs": {
        "keras": ("compiled",),
        "plain_torch": ("compiled",),
        "plain_flax": ("compiled",),
    },
    "predict.sample": dict.fromkeys(
        ("keras", "plain_torch", "plain_flax"), ("posterior", "chance")
    ),
}
