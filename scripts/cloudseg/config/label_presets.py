"""The forms of the labels and submissions of some contests, by name; docs/labels.md says where each fact is from."""

from typing import Any

_SINGLE = {"separator": "", "several": "unite"}  # one class, which no column names
_KAGGLE = {"image_column": "ImageId", "text_column": "EncodedPixels"}

PRESETS: dict[str, dict[str, Any]] = {
    "understanding-clouds": {"labels": {}, "classes": ["Fish", "Flower", "Gravel", "Sugar"]},
    "severstal": {
        "labels": {
            **_KAGGLE,
            "class_column": "ClassId",
            "empty": "no row",
            "submission_columns": ["ImageId", "EncodedPixels", "ClassId"],
            "sample": "images",
        },
        "classes": ["1", "2", "3", "4"],
    },
    "severstal-2019": {"labels": {"image_column": "ImageId_ClassId"}, "classes": ["1", "2", "3", "4"]},
    "siim-acr": {
        "labels": {**_KAGGLE, **_SINGLE, "first": 0, "starts": "relative", "empty": "-1", "suffix": False},
        "train_table": "train-rle.csv",
        "classes": ["pneumothorax"],
    },
    "tgs": {
        "labels": {**_SINGLE, "image_column": "id", "text_column": "rle_mask", "suffix": False},
        "train_images": "train/images",
        "test_images": "test/images",
        "classes": ["salt"],
    },
    "airbus": {
        "labels": {**_KAGGLE, **_SINGLE, "several": "split"},
        "train_images": "train_v2",
        "test_images": "test_v2",
        "train_table": "train_ship_segmentations_v2.csv",
        "sample_submission": "sample_submission_v2.csv",
        "classes": ["ship"],
    },
    "hubmap": {
        "labels": {
            **_SINGLE,
            "image_column": "id",
            "text_column": "encoding",
            "suffix": False,
            "submission_columns": ["id", "predicted"],
        },
        "train_images": "train",
        "test_images": "test",
        "classes": ["glomerulus"],
    },
    "uw-madison": {
        "labels": {
            "order": "rows",
            "image_column": "id",
            "class_column": "class",
            "text_column": "segmentation",
            "suffix": False,
            "submission_columns": ["id", "class", "predicted"],
        },
        "train_images": "train",
        "test_images": "test",
        "classes": ["large_bowel", "small_bowel", "stomach"],
    },
    "contrails": {
        "labels": {
            **_SINGLE,
            "image_column": "record_id",
            "text_column": "encoded_pixels",
            "suffix": False,
            "empty": "-",
        },
        "train_images": "train",
        "test_images": "test",
        "classes": ["contrail"],
    },
    "carvana": {
        "labels": {**_SINGLE, "order": "rows", "image_column": "img", "text_column": "rle_mask"},
        "train_images": "train",
        "test_images": "test",
        "train_table": "train_masks.csv",
        "classes": ["car"],
    },
}
