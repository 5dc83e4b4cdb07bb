"""Write `pytorch_names.json`: what PyTorch's classes call their weights, and the shapes.

Run by hand where torch and transformers are installed: `python write_pytorch_names.py`.
"""

import json
from pathlib import Path

import transformers

TASKS = ["SequenceClassification", "TokenClassification", "QuestionAnswering"]
HERE = Path(__file__).parent


def shapes(model: transformers.PreTrainedModel) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def main() -> None:
    found = {}
    for kind, settings in json.loads((HERE / "tiny_configs.json").read_text()).items():
        config = transformers.AutoConfig.for_model(kind, **settings, num_labels=2)
        bare = shapes(transformers.AutoModel.from_config(config))
        tasks = {}
        for task in TASKS:
            model = getattr(transformers, f"AutoModelFor{task}").from_config(config)
            names, prefix = shapes(model), f"{model.base_model_prefix}."
            within = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
            tasks[task] = {
                "class": type(model).__name__,
                "prefix": prefix,
                "lacks": sorted(set(bare) - within),
                "heads": {n: shape for n, shape in names.items() if not n.startswith(prefix)},
            }
        found[kind] = {"bare": bare, "tasks": tasks}
    lines = [f"{json.dumps(kind)}: {json.dumps(names)}" for kind, names in found.items()]
    (HERE / "pytorch_names.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
