"""ValidatingAdmissionPolicies: rules in CEL that refuse writes."""
