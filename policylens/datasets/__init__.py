"""LeRobot datasets, v3.0 and v2.1, read with pyarrow alone: where they are, what they hold, their frames."""
