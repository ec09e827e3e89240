"""A program that knows nothing of a pipeline but the file that it was compiled to."""

import json
import os
import sys

from runwide_components import Kubeflow, Local, Vertex

if __name__ == "__main__":
    name, words, options = json.loads(os.environ["MATRIX"])["engine"]
    engine = {"Local": Local, "Vertex": Vertex, "Kubeflow": Kubeflow}[name](*words, **options)
    engine.submit(sys.argv[1], {}).wait(300)
