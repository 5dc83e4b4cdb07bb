"""The models that the REST cases were measured with, as SavedModels of a few nodes each."""

from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

v1 = tf.compat.v1


def _info(tensor, shape):
    """Describe a tensor with a shape of its own, as the measured servables do."""
    return meta_graph_pb2.TensorInfo(
        name=tensor.name,
        dtype=tensor.dtype.as_datatype_enum,
        tensor_shape=tf.TensorShape(shape).as_proto(),
    )


def write_model(folder: Path, inputs, compute):
    """Write `folder` with one signature.

    Args:
        folder: the version's.
        inputs: name → dtype and the shape that the signature declares.
        compute: takes the placeholders, gives name → tensor and declared shape.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        fed = {name: v1.placeholder(dtype, None, name) for name, (dtype, _) in inputs.items()}
        outputs = compute(**fed)
        signature = meta_graph_pb2.SignatureDef(
            inputs={name: _info(tensor, inputs[name][1]) for name, tensor in fed.items()},
            outputs={name: _info(*output) for name, output in outputs.items()},
            method_name="tensorflow/serving/predict",
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


def write_half_plus_two(folder: Path):
    write_model(
        folder,
        {"x": (tf.float32, [None, 1])},
        lambda x: {"y": (tf.identity(0.5 * x + 2, "y"), [None, 1])},
    )


def _multi(ids, mask):
    logits = tf.identity(tf.cast(ids, tf.float32) * mask, "l")
    return {"logits": (logits, [None]), "n": (tf.reduce_sum(ids, 1, name="n"), [None])}


def _write_strings(folder: Path):
    string = {"s": (tf.string, [None])}
    write_model(folder / "str1/1", string, lambda s: {"out": (tf.identity(s), [None])})
    write_model(folder / "str1b/1", string, lambda s: {"out_bytes": (tf.identity(s), [None])})
    write_model(
        folder / "strs/1",
        string,
        lambda s: {"a_bytes": (tf.identity(s), [None]), "txt": (tf.identity(s), [None])},
    )


def write_all(folder: Path):
    """Write every model, and the configuration that labels version 123 `stable`."""
    write_half_plus_two(folder / "half_plus_two/123")
    ids, mask = (tf.int32, [None, None]), (tf.float32, [None, None])
    write_model(folder / "multi/1", {"ids": ids, "mask": mask}, _multi)
    _write_strings(folder)
    write_model(
        folder / "half16out/1",
        {"x": (tf.float32, [None])},
        lambda x: {"h": (tf.cast(x, tf.float16), [1])},
    )
    names = {"f32": "float32", "f64": "float64", "bf16": "bfloat16", "i32": "int32"}
    for short, name in (names | {"i64": "int64", "u64": "uint64", "bool": "bool"}).items():
        inputs = {"x": (tf.as_dtype(name), None)}
        write_model(folder / f"echo_{short}/1", inputs, lambda x: {"out": (tf.identity(x), None)})
    return write_config(folder)


def write_config(folder: Path):
    models = "".join(
        f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" '
        + ('version_labels { key: "stable" value: 123 } }\n' if "plus" in path.name else "}\n")
        for path in sorted(folder.iterdir())
        if path.is_dir()
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{\n{models}}}\n")
    return config
