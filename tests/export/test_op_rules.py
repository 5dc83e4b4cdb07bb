"""Which of all ops of the installed TensorFlow may keep state in a bundle."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf  # noqa: F401  # here for the definitions of its ops
import tensorflow_text  # noqa: F401
from tensorflow.python.framework import op_def_registry

from tfllm.export.op_rules import reason_against
from tfllm.serving.session import Node, registered_ops

# Reading variables and tables, control flow, tokenizers, checks, and arrays that a call owns.
HARMLESS = {
    "AnonymousHashTable",
    "Assert",
    "Case",
    "CheckNumerics",
    "CheckNumericsV2",
    "DeviceIndex",
    "GuaranteeConst",
    "HashTable",
    "HashTableV2",
    "If",
    "LookupTableExportV2",
    "LookupTableFindV2",
    "LookupTableSizeV2",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "RiscWhile",
    "StatefulPartitionedCall",
    "StatelessRandomGetAlg",
    "VarHandleOp",
    "VarIsInitializedOp",
    "VariableShape",
    "While",
    "WordpieceTokenizeWithOffsets",
}
HARMLESS_KINDS = ("Sentencepiece", "TensorArray")


def reason(op, function="__inference_serve_1", known=None):
    node = Node(function, "n", op, must_compile=False)
    return reason_against(node, known or frozenset({op}))


def test_only_harmless_ops_with_state_pass():
    # In a process without TensorFlow's Python, which registers ops that no server has.
    code = "from tfllm.serving.session import registered_ops; print(*registered_ops())"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True
    )
    stateful = {op for op in done.stdout.split() if op_def_registry.get(op).is_stateful}
    assert len(stateful) > 500
    passed = {op for op in stateful if not reason(op)}
    assert {op for op in passed if not op.startswith(HARMLESS_KINDS)} == HARMLESS


@pytest.mark.parametrize("op", ["ReadFile", "WriteFile", "PrefetchDataset", "QueueDequeue"])
def test_ops_that_hide_their_state_are_refused(op):
    assert reason(op)


@pytest.mark.parametrize(
    "op",
    [
        "MatMul",
        "_FusedMatMul",
        "Einsum",
        "StatelessRandomUniformV2",
        "TensorListSetItem",
        "TensorScatterUpdate",
        "ScatterNd",
        "RegexReplace",
        "StringSplitV2",
        "BatchMatMulV2",
    ],
)
def test_ops_that_models_are_made_of_pass(op):
    assert op in registered_ops() and not reason(op)


@pytest.mark.parametrize("op", ["AssignVariableOp", "RestoreV2", "InitializeTableFromTextFileV2"])
def test_what_loads_a_bundle_may_write(op):
    assert reason(op)
    for function in ("", "__inference__traced_restore_7", "__inference__initializer_7"):
        assert not reason(op, function)
        assert reason("EagerPyFunc", function)


def test_an_unknown_op_is_refused():
    assert "doesn't know it" in reason("Elsewhere>Op", known=frozenset({"MatMul"}))
