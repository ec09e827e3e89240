"""Execute a notebook as Jupyter would, and print what its cells print."""

import sys

import nbclient
import nbformat

if __name__ == "__main__":
    book = nbformat.read(sys.argv[1], 4)
    nbclient.NotebookClient(book, timeout=600).execute()
    for cell in book.cells:
        print("".join(one.text for one in cell.outputs if one.output_type == "stream"))
