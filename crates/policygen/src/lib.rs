//! Sites to policy.yaml, policy.yaml to a signed bundle.
