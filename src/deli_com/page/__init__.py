"""The page that shows what a server sends: ``bind(page=True)`` and ``deli-com view``."""
