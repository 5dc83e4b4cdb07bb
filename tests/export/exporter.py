"""Run by tests in a process of its own, to be killed at any moment.

For each folder on stdin it forks two exporters, prints their process ids, lets them export into the
folder for ever, printing the first version, and prints `dead` when they were killed.
"""

import os
import sys

import tensorflow as tf

from tfllm.export import Card, export_bundle


class Big(tf.Module):
    """Four megabytes, so that a version takes a moment to be written."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.ones([1_000_000]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def measure(self, texts):
        scale = tf.reduce_mean(self.weights)
        return {"length": tf.cast(tf.strings.length(texts), tf.float32) * scale}


def export_for_ever(folder):
    model = Big()
    while True:
        version = export_bundle(
            {"serving_default": model.measure}, folder, "big", modules=[model], card=Card()
        )
        if version.name == "1":
            print(version, flush=True)


for line in sys.stdin:
    # TensorFlow has been imported but not used: that is safe to fork, and saves importing it again.
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            export_for_ever(line.strip())
        children.append(pid)
    print(*children, flush=True)
    for pid in children:
        os.waitpid(pid, 0)
    print("dead", flush=True)
