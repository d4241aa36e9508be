"""How well maps predict gaze: metrics, baselines, evaluations, and their pages."""
