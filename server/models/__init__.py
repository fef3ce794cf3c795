"""Bundle, tokenizer and engine make a model; ensembles of models; the registry with reload and rollback."""
