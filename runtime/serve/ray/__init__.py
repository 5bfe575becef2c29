"""ferrum-serve on several machines: an application for Ray Serve, built from its arguments.

serve run ferrum.runtime.serve.ray:app model=OUT.onnx replicas=2 threads=8

Replicas of the engine, each as ferrum-serve runs one, stand behind an ingress that sends the
requests of one conversation to one replica. docs/scale.md says when that helps. Ray is imported
here and nowhere else in ferrum.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from ferrum.runtime.serve.ray.arguments import Arguments
from ferrum.runtime.serve.ray.ingress import Ingress
from ferrum.runtime.serve.ray.replica import Replica
from ferrum.runtime.serve.ray.router import PrefixRouter

# Seconds from a replica's death to the start of another, and what a healthy one's answer may take.
_HEALTH_PERIOD, _HEALTH_TIMEOUT = 2.0, 30.0
# An ingress counts and refuses by itself, with OpenAI's error; Ray's own limit must not come first.
_NO_LIMIT = 1 << 20
_DRAIN_WITHOUT_LIMIT = 86_400.0  # seconds, where requests may take as long as they like


def app(args: dict[str, Any]) -> Application:
    """The application of the arguments, which docs/scale.md lists.

    Values may be texts, as `serve run` passes them on. Raises SettingsError or ArtifactError, each
    with one line.
    """
    arguments = Arguments.of(args)
    engine = serve.deployment(
        Replica,
        name="Engine",
        ray_actor_options=arguments.resources,
        **arguments.replicas,
        max_ongoing_requests=arguments.most_per_replica,
        max_queued_requests=arguments.serve.max_queue,
        request_router_config={
            "request_router_class": PrefixRouter,
            "request_router_kwargs": {"places": arguments.settings.max_sequences},
        },
        graceful_shutdown_timeout_s=arguments.serve.request_timeout or _DRAIN_WITHOUT_LIMIT,
        health_check_period_s=_HEALTH_PERIOD,
        health_check_timeout_s=_HEALTH_TIMEOUT,
        max_constructor_retry_count=2,
        logging_config={"enable_access_log": False},
    ).bind(str(arguments.model), arguments.settings, arguments.serve)
    ingress = serve.deployment(
        serve.ingress()(Ingress),
        name="Ingress",
        num_replicas=arguments.ingresses,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_NO_LIMIT,
        graceful_shutdown_timeout_s=arguments.serve.request_timeout or _DRAIN_WITHOUT_LIMIT,
        logging_config={"enable_access_log": arguments.serve.access_log},
    )
    application: Application = ingress.bind(engine, arguments.serve)
    return application
