"""Results as callers see them: of one task, of many, of those that ran here. ``umbel.result`` has the public names."""
