"""The workshop's command line: recipes, stages and the artifact store that caches them."""
