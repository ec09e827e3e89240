"""The fan-out and fan-in that the starter kit of Vertex pipelines teaches, in the runwide image.

It is unchanged but for the image: a new base image changes nothing else in a pipeline. It runs on this
machine with ``python components/examples/fan_out_fan_in.py``, in containers, or with ``subprocess`` in subprocesses.
"""

# ruff: noqa: ANN201, D103  # the program as its author wrote it

import sys

import kfp
from kfp.dsl import component

from runwide_components import Local, base_image


@component(base_image=base_image())
def dummy_task():
    pass


@kfp.dsl.pipeline(name="fan-out-fan-in")
def pipeline():
    first_task = dummy_task()

    parallel_tasks = []
    for _ in range(3):
        parallel_task = dummy_task()
        parallel_task.after(first_task)
        parallel_tasks.append(parallel_task)

    final_task = dummy_task()
    for task in parallel_tasks:
        final_task.after(task)


if __name__ == "__main__":
    Local(*sys.argv[1:]).run(pipeline)
    print("all five tasks have run")
