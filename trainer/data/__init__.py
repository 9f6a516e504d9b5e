"""From labelled pictures to faces, cut and split: readers, alignment, preparation, augmentation."""
