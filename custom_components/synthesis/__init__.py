"""From a folder of healthy scans to a training set: sites, masks, lesions, files."""
