"""What all tests share: quiet TensorFlow, stores in a folder of the test run's own."""

import os

# They are read when TensorFlow and transformers are first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import pytest
from hypothesis import settings

# A shared machine may take any time for one example. The same examples every time, so that a red
# test is a change's; TFLLM_LUCK=1 looks for new ones.
settings.register_profile("tfllm", deadline=None, derandomize=not os.environ.get("TFLLM_LUCK"))
settings.load_profile("tfllm")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_test_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["TFLLM_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
