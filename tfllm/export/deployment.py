"""Files that start a server for a bundle: Docker Compose and Kubernetes."""

from __future__ import annotations

import re

__all__ = ["GRPC_PORT", "REST_PORT", "SERVER", "compose_file", "kubernetes_file"]

SERVER = "2.20.0"
GRPC_PORT = 8500
REST_PORT = 8501

# The server answers 200 for a version that failed to load: `state` is what counts. Its image has
# bash and no curl.
_PROBE = (
    "exec 3<>/dev/tcp/127.0.0.1/{port} && "
    "printf 'GET /v1/models/{name} HTTP/1.0\\r\\n\\r\\n' >&3 && "
    'grep -q \'"state": "AVAILABLE"\' <&3'
)

# Left to whoever deploys: what decodes step by step wants all threads for each operation.
_FOR_ENCODERS = (
    "# Encoders (BERT …) answer a lone request sooner with one thread for each operation:",
    "# - --tensorflow_intra_op_parallelism=1",
)


def compose_file(name: str) -> str:
    """Write `docker-compose.yml`: `docker compose --profile cpu up`, or `gpu`.

    It stands beside the versions, and mounts the folder that it stands in.
    """
    flags = _flag_lines(name, 6)
    return f"""\
x-serving: &serving
  # The server itself, not the image's script, so that it gets the signal to stop.
  entrypoint: [tensorflow_model_server]
  command:
{flags}
  ports:
    - "127.0.0.1:{GRPC_PORT}:{GRPC_PORT}"
    - "127.0.0.1:{REST_PORT}:{REST_PORT}"
  volumes:
    - type: bind
      source: .
      target: /models/{name}
      read_only: true
  healthcheck:
    test:
      - CMD
      - bash
      - -c
      - {_yaml(_probe(name).replace("$", "$$"))}
    interval: 5s
    timeout: 5s
    retries: 60
  restart: unless-stopped

services:
  cpu:
    <<: *serving
    profiles: [cpu]
    image: tensorflow/serving:{SERVER}
  gpu:
    <<: *serving
    profiles: [gpu]
    image: tensorflow/serving:{SERVER}-gpu
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
"""


def kubernetes_file(name: str, loaded_bytes: int) -> str:
    """Write `kubernetes.yaml`: a Deployment and a Service of two ports.

    Args:
        name: the bundle's.
        loaded_bytes: memory that one loaded version's weights take. Two are loaded while a new
            version takes over.
    """
    return f"{_deployment(name, loaded_bytes)}---\n{_service(_label(name))}"


def _deployment(name: str, loaded_bytes: int) -> str:
    label = _label(name)
    return f"""\
# The claim {label}-models holds this folder as {name}/.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {label}
  labels: {{app: {label}}}
spec:
  replicas: 2
  selector:
    matchLabels: {{app: {label}}}
  template:
    metadata:
      labels: {{app: {label}}}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "{REST_PORT}"
        prometheus.io/path: /monitoring/prometheus/metrics
    spec:
      terminationGracePeriodSeconds: 60
      containers:
{_container(name, loaded_bytes)}
      volumes:
        - name: models
          persistentVolumeClaim: {{claimName: {label}-models, readOnly: true}}
"""


def _container(name: str, loaded_bytes: int) -> str:
    mebibytes = 2 * -(-loaded_bytes // 2**20) + 1024
    return f"""\
        - name: serving
          image: tensorflow/serving:{SERVER}
          # The server itself, not the image's script, so that it gets the signal to stop.
          command: [tensorflow_model_server]
          args:
{_flag_lines(name, 12)}
          ports:
            - {{name: grpc, containerPort: {GRPC_PORT}}}
            - {{name: rest, containerPort: {REST_PORT}}}
          resources:
            requests: {{cpu: "2", memory: {mebibytes}Mi}}
            limits: {{memory: {2 * mebibytes}Mi}}
{_probes(name)}
          volumeMounts:
            - {{name: models, mountPath: /models, readOnly: true}}"""


def _probes(name: str) -> str:
    return f"""\
          # Its ports open once a version is available.
          startupProbe:
            tcpSocket: {{port: rest}}
            periodSeconds: 5
            failureThreshold: 120
          readinessProbe:
            exec:
              command:
                - bash
                - -c
                - {_yaml(_probe(name))}
            periodSeconds: 10
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket: {{port: grpc}}
            periodSeconds: 20
            failureThreshold: 3"""


def _service(label: str) -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {label}
  labels: {{app: {label}}}
spec:
  selector: {{app: {label}}}
  ports:
    - {{name: grpc, port: {GRPC_PORT}, targetPort: grpc}}
    - {{name: rest, port: {REST_PORT}, targetPort: rest}}
"""


def _flags(name: str) -> list[str]:
    folder = f"/models/{name}"
    return [
        f"--port={GRPC_PORT}",
        f"--rest_api_port={REST_PORT}",
        f"--model_config_file={folder}/models.config",
        # So that a changed file, labels above all, is taken up without a restart.
        "--model_config_file_poll_wait_seconds=30",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={folder}/monitoring.config",
        # With one, a version that fails to load would hold up all others for minutes.
        "--num_load_threads=2",
        "--num_unload_threads=2",
    ]


def _probe(name: str) -> str:
    return _PROBE.format(name=name, port=REST_PORT)


def _flag_lines(name: str, indent: int) -> str:
    lines = [*(f"- {flag}" for flag in _flags(name)), *_FOR_ENCODERS]
    return "\n".join(" " * indent + line for line in lines)


def _yaml(text: str) -> str:
    """Quote a string that holds anything but a line's end."""
    return "'" + text.replace("'", "''") + "'"


def _label(name: str) -> str:
    """Turn a bundle's name into what Kubernetes lets things be called."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:53].strip("-")
    return label if label[:1].isalpha() else f"model-{label}".strip("-")
