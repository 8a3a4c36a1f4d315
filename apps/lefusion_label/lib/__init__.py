"""What the MONAI Label app is made of: inference, training and active learning around the bundles."""
