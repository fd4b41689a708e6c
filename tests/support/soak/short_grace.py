"""`python short_grace.py ENTREPOT serve …`: a server whose grace may be seconds, not a minute.

The setting refuses less than a minute, because nobody wants that. Its workers are spawned: each
reads this file first, and so refuses nothing either.
"""

import sys

from entrepot.cli.main import main
from entrepot.config import tree

tree.UploadsSettings.model_fields["protect_seconds"].metadata.clear()
tree.UploadsSettings.model_rebuild(force=True)
tree.Settings.model_rebuild(force=True)

if __name__ == "__main__":
    main(sys.argv[2:], prog_name="entrepot")
