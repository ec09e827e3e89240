"""A program that imports the module of a pipeline, and submits it."""

from shop import pipe

if __name__ == "__main__":
    pipe.main()
