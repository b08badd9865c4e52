-- Optuna's trials, beside MLflow's runs.
CREATE DATABASE studies ENCODING 'UTF8' TEMPLATE template0;
