"""PyTorch's calls as CUDA graphs: a stand-in records what is computed, and computes it again in the same memory.

No GPU is needed. What only a real one can refuse or forget is not seen here.
"""

from own_process import FIT, run_script

SCRIPT = """
import contextlib, json, sys
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from impl_torch import device, train
from shared.method.views import still_views
from shared.method.backend import open_backend
from shared.method.batches import Cutouts, Labelled, draw_plan
from shared.run.keys import galaxy_keys
from shared.run.spec import RunSpec, from_config
from shared.run.keys import galaxy_hash
from shared.network.weights import first_checkpoint

class Graph(TorchDispatchMode):
    made, launches = 0, 0

    def __init__(self):
        super().__init__()
        self.calls = []
        Graph.made += 1

    def __torch_dispatch__(self, call, types, given=(), named=None):
        if call is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a number was asked for while recording")
        result = call(*given, **(named or {}))
        self.calls.append((call, given, named or {}, result))
        return result

    def replay(self):
        Graph.launches += 1
        for call, given, named, result in self.calls:
            for place, value in zip(tree_leaves(result), tree_leaves(call(*given, **named)), strict=True):
                if isinstance(place, torch.Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)

class Stream:
    def wait_stream(self, other):
        pass

run = from_config(RunSpec, json.loads(sys.argv[1]))
backend = open_backend(run.backend)
random = np.random.default_rng(0)
pixels = random.integers(0, 256, (20, 64, 64, 1), np.uint8)
images, hashes = Cutouts(pixels, 2), galaxy_hash(range(20))
labelled = Labelled.yes_or_no(np.arange(20), hashes, random.integers(0, 9, 20), np.full(20, 9))

def everything():
    one, other = (backend.init(run, first_checkpoint(run.model, seed)) for seed in (0, 1))
    found = []
    for first in (0, 2, 4):  # two networks take turns in the same recordings
        for state in (one, other):
            plan = draw_plan(run, labelled, images.size, 0, first, 2)
            found.append(backend.train_steps(state, images, plan)[1])
    for state in (one, other):
        for rows in (np.arange(7), np.arange(9, 13)):
            views, keys = still_views(run, images.size, len(rows)), galaxy_keys(0, "posterior", hashes[rows])
            found.append(backend.sample(state, images[rows], views, keys, 0, 3))
        found.append(backend.sample(state, images[rows], views, keys, 3, 5))
        found += list(backend.export_checkpoint(state).first.values())
        found += list(backend.export_weights(state).values())
    return found

wanted = everything()
torch.cuda.Stream, torch.cuda.current_stream = Stream, Stream
torch.cuda.stream = contextlib.nullcontext
torch.cuda.CUDAGraph, torch.cuda.graph = Graph, lambda graph: graph
there, device.on_gpu = device.on_gpu, lambda: True
made = train.programs.__wrapped__(run, run.backend)
device.on_gpu, train.programs = there, lambda *_: made
pairs = list(zip(everything(), wanted, strict=True))
print(json.dumps([all(np.array_equal(one, other) for one, other in pairs), Graph.made, Graph.launches]))
"""


def test_a_recording_computes_what_its_call_would():
    same, made, launches = run_script(SCRIPT, [*FIT, "backend=torch"])
    assert same
    assert made == 3  # of steps, of 3 samples, of 5
    assert launches == 6 + 2 * (2 + 1 + 1)
