"""Which ops a bundle may hold.

An op is allowed if TensorFlow or TF Text registers it and no rule here refuses it. The rules refuse
every op that keeps state or touches the world outside the request, but for the few that a served
model needs (variables that are read, tables that are looked up, control flow, tokenizers); a test
goes through all ops of the installed TensorFlow and sees to that.
"""

from __future__ import annotations

import re

from tfllm.serving.session import Node

__all__ = ["reason_against"]

# Functions that the server runs while it loads, or never.
_LOADING = re.compile(r"__inference__(traced_restore|traced_save|initializer|creator|destroyer)_.*")

_PYTHON = re.compile(r"(Eager)?PyFunc(Stateless)?|NumpyFunction")
_XLA = re.compile(r"_?Xla.*|AssignVariableXla.*|ReadVariableXla.*")
_GROWING_TABLE = re.compile(r"(Anonymous)?Mutable(Dense)?HashTable.*")
_RANDOM = re.compile(
    r"Random(Crop|Gamma|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)"
    r"|(Parameterized)?TruncatedNormal|Multinomial|NonDeterministicInts|Rng(ReadAndSkip|Skip)"
    r"|Stateful(RandomBinomial|StandardNormal|StandardNormalV2|TruncatedNormal|Uniform.*)"
    r"|.*CandidateSampler|.*SeedGenerator|SampleDistortedBoundingBox.*|Skipgram|NegTrain"
    r"|CudnnRNN.*"
)
_WRITING = re.compile(
    r"Assign(Add|Sub)?(VariableOp)?|ResourceStridedSliceAssign|StridedSliceAssign"
    r"|Resource(Sparse)?Apply.*|ResourceScatter.*|ResourceCountUpTo|Scatter(Nd)?(Add|Sub|Update)"
    r"|LookupTable(Import|Insert|Remove).*|InitializeTable.*|(Temporary)?Variable(V2)?|Empty"
    r"|DestroyResourceOp|DisableCopyOnRead|BoostedTrees.*|IsBoostedTrees.*"
)
_KEEPING = re.compile(
    r".*(Dataset|Iterator|Queue|Barrier|Accumulator|Mutex|MemoryCache|StatsAggregator)(V\d)?"
    r"|.*(Queue|Iterator|Reader|Mutex|MemoryCache|Accumulator|SessionHandle|SessionTensor).*"
    r"|_?(Ordered)?Map(Clear|IncompleteSize|Peek|Size|Stage|Unstage|UnstageNoKey)"
    r"|(Stage|Unstage|StageClear|StagePeek|StageSize)|Stack(Close|Pop|Push)?(V2)?|.*ThreadPool.*"
    r"|.*SparseFromTensorsMap|.*SparseToTensorsMap|DatasetTo.*|.*DatasetToTFRecord|ReduceDataset"
    r"|.*StatsAggregator.*|ConsumeMutexLock|RecordInput|DummyIterationCounter|GlobalIterId"
    r"|StoreMinibatch.*|GetMinibatch.*|UpdateTaskId.*|CalibrationStatisticsSaver|ConvertToCooTensor"
)
_OUTSIDE = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|Save(V2|Slices)?|Restore(V2|Slice)?|MergeV2Checkpoints"
    r"|LoadAndRemapMatrix|DistributedSave|.*Summary.*|ImportEvent|Print(V2)?|DumpTensor|Debug.*"
    r"|Timestamp|Rpc.*|Delete(RpcFutureResource)|RemoteCall|_?(Host)?(Send|Recv)"
    r"|FileSystemSetConfiguration|WorkerHeartbeat"
)
_CLUSTER = re.compile(
    r".*(TPU|Tpu).*|DTensor.*|Collective.*|_?Nccl.*|CrossReplicaSum|AllToAll|_?(In|Out)feed.*"
    r"|.*Distributed(TPU)?.*|ComputeDedupData.*|SyncDevice|DeepCopy"
)
# The runtime puts them in while it runs a graph; they are never written into one.
_INTERNAL = re.compile(r"_(?!FusedConv2D|FusedMatMul).*")

_EVERYWHERE = (
    (_PYTHON, "runs Python, which the server hasn't got: every call would fail"),
    (_XLA, "belongs to XLA, which the server has off"),
    (_GROWING_TABLE, "is a table that requests change: use tf.lookup.StaticHashTable"),
    (_CLUSTER, "speaks to other devices or machines, which the server hasn't got"),
    (_INTERNAL, "is the runtime's own and does not belong in a saved graph"),
)
# The graph outside the functions that signatures call holds what is done once, at loading.
_SERVED = (
    (_RANDOM, "draws from hidden state: use tf.random.stateless_* with a seed from the request"),
    (_WRITING, "writes a variable, which concurrent requests share: keep state inside the call"),
    (_KEEPING, "keeps state between calls, which concurrent requests share"),
    (_OUTSIDE, "reads or writes outside the request: files, logs, clocks or other processes"),
)


def reason_against(node: Node, known: frozenset[str]) -> str:
    """Say why a node may not be in a bundle; empty if it may.

    Args:
        node: of the main graph or of a function.
        known: the ops that the server has, and the names of the bundle's own functions.
    """
    if node.must_compile:
        return "must be compiled (jit_compile=True), and the server has XLA off"
    served = node.function and not _LOADING.fullmatch(node.function)
    for rule, reason in (*_EVERYWHERE, *(_SERVED if served else ())):
        # A graph's own functions may be called anything.
        if rule.fullmatch(node.op) and not node.op.startswith("__inference_"):
            return reason
    if node.op not in known:
        return "is neither TensorFlow's nor TF Text's: the server doesn't know it"
    return ""
