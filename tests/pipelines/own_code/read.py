"""A program that imports the module of a pipeline that others have run, and looks at its results."""

import pipe

if __name__ == "__main__":
    pipe.main()
