"""Checkpoint → lighter checkpoint: channels pruned, convolutions made separable, weights that bear INT8; all taught by
the original. It knows no family: what can be taught is handed in (`trainable.Handed`)."""
