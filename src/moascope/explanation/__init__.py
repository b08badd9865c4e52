"""Why: what the model's predictions rest on, by channel, by kind of measurement, and in a crop."""
