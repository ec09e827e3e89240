"""Optional parameters that were left out: kfp.local 2.17 fails on one without a default, other engines pass nothing on."""

from __future__ import annotations

from typing import Any

from kfp.local import executor_input_utils
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils


def patch_optional() -> None:
    """Patch kfp.local: pass on None for a parameter without value and default, and nothing to a container."""
    joined = OrchestratorUtils.join_user_inputs_and_defaults
    constructed = executor_input_utils.construct_executor_input

    def join(*, dag_arguments: dict[str, Any], dag_inputs_spec: Any) -> dict[str, Any]:
        nothing = _without_value(dag_inputs_spec, dag_arguments)
        return dict(joined(dag_arguments={**nothing, **dag_arguments}, dag_inputs_spec=dag_inputs_spec))

    def construct(*, arguments: dict[str, Any], **options: Any) -> Any:
        there = {name: value for name, value in arguments.items() if value is not None}
        made = constructed(arguments=there, **options)
        values = made.inputs.parameter_values
        for name in [name for name, value in values.items() if value.WhichOneof("kind") is None]:
            del values[name]
        return made

    OrchestratorUtils.join_user_inputs_and_defaults = join
    executor_input_utils.construct_executor_input = construct


def _without_value(spec: Any, arguments: dict[str, Any]) -> dict[str, None]:
    return {
        name: None
        for name, one in spec.parameters.items()
        if name not in arguments and one.is_optional and one.default_value.WhichOneof("kind") is None
    }
