"""finetune: a model and a prepared dataset → a LoRA adapter, through TRL and PEFT."""
