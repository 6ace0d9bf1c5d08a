"""What the rules ask while a workflow is parsed: the plan of all jobs, their inputs, params and costs. No torch."""
