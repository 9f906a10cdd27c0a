import sys

import dtale
import pandas

dtale.show(
    pandas.DataFrame({"answer": ["six times seven"], "number": [42]}),
    host=sys.argv[1],
    port=int(sys.argv[2]),
    subprocess=False,
    open_browser=False,
)
