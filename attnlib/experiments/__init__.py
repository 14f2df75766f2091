"""Many runs: studies, profiles, records."""
