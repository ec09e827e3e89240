"""The multiprocessing example that the starter kit of Vertex pipelines teaches, on real cores.

Only the import is changed. `as_component` is the same program as a lightweight component in the runwide image. Its functions
are nested, and a pool of the standard library cannot take nested functions.
Run it with ``python components/examples/pool_starmap.py``.
"""

# ruff: noqa: ANN001, ANN201, ANN202, D103  # the program as its author wrote it

from random import randint
from time import sleep

from kfp.dsl import component

from runwide import Pool
from runwide_components import base_image


def execute_task(arg1, arg2):
    print(f"Executing task with args {arg1, arg2}")
    result = randint(arg1, arg2)
    sleep(result)
    return result


@component(base_image=base_image())
def as_component() -> list:
    from random import randint
    from time import sleep

    from runwide import Pool

    def execute_task(arg1, arg2):
        print(f"Executing task with args {arg1, arg2}")
        result = randint(arg1, arg2)
        sleep(result)
        return result

    tasks = [(1, 2), (3, 4), (5, 6)]

    with Pool(processes=2) as pool:
        return pool.starmap(execute_task, tasks)


if __name__ == "__main__":
    tasks = [(1, 2), (3, 4), (5, 6)]

    with Pool(processes=2) as pool:
        result = pool.starmap(execute_task, tasks)

    print(f"Results: {result}")
