"""From a survey to arrays: tables, images, the store and the split."""
