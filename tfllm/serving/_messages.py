"""The few TensorFlow protocol messages that a session reads, built without TensorFlow.

TensorFlow's own `*_pb2` modules live inside the `tensorflow` package, and importing one imports all
of TensorFlow. The fields declared here are those that are read; protobuf skips all others. They
live in a pool of their own, so that they do not collide with TensorFlow's where both are loaded.

Numbers and types are those of tensorflow/core/framework/*.proto and tensorflow/core/protobuf/
meta_graph.proto, which TensorFlow never changes.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

__all__ = ["MetaGraphDef", "OpList"]

# message → field → (number, type). `*` marks a repeated field; a map is repeated key/value pairs.
_FIELDS = {
    "MetaGraphDef": {"graph_def": (2, "GraphDef"), "signature_def": (5, "*SignatureEntry")},
    "SignatureEntry": {"key": (1, "string"), "value": (2, "SignatureDef")},
    "SignatureDef": {"inputs": (1, "*TensorEntry"), "outputs": (2, "*TensorEntry")},
    "TensorEntry": {"key": (1, "string"), "value": (2, "TensorInfo")},
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "Shape")},
    "Shape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int64")},
    "GraphDef": {"node": (1, "*NodeDef"), "library": (2, "FunctionDefLibrary")},
    "FunctionDefLibrary": {"function": (1, "*FunctionDef")},
    "FunctionDef": {
        "signature": (1, "OpDef"),
        "node_def": (3, "*NodeDef"),
        "attr": (5, "*AttrEntry"),
    },
    "NodeDef": {"name": (1, "string"), "op": (2, "string"), "attr": (5, "*AttrEntry")},
    "AttrEntry": {"key": (1, "string"), "value": (2, "AttrValue")},
    "AttrValue": {"b": (5, "bool")},
    "OpList": {"op": (1, "*OpDef")},
    "OpDef": {"name": (1, "string")},
}

_SCALARS = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tfllm/messages.proto", package="tfllm")
    file.syntax = "proto3"
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if kind[0] == "*" else field.LABEL_OPTIONAL
            kind = kind.lstrip("*")
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = field.TYPE_MESSAGE
                field.type_name = f".tfllm.{kind}"
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def _message_class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"tfllm.{name}"))


MetaGraphDef = _message_class("MetaGraphDef")
OpList = _message_class("OpList")
