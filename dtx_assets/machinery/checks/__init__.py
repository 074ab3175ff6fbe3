"""Asset checks as pure evaluations over rows, and the gate that they close. It knows no Dagster."""
