"""Random tests draw the same examples every time, so that a check says the same twice.

`pytest --hypothesis-profile=random` looks for new ones.
"""

from hypothesis import settings

# Loaded machines are slow at times; what is tested is not how fast an example runs.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=1000)
settings.load_profile("same")
