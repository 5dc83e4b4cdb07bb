"""Small data sets that tfllm brings, made-up English sentences, for a run without a network."""

from tfllm.data.showcase.showcase import Showcase, ShowcaseName

__all__ = ["Showcase", "ShowcaseName"]
