"""The command `prelabel export`: reads a network, and publishes it."""

from rich.console import Console

from export.options import ExportOptions
from server.bundle import Bundle
from server.offline.labelled import LabelledSource, LabelledTexts, read_labelled


def export_network(options: ExportOptions, console: Console, *, torchscript: bool, force: bool) -> Bundle:
    """Publish a bundle. Raises PrelabelError."""
    options.check()
    if options.transformer is not None:
        return _export_transformer(options, console, torchscript=torchscript, force=force)
    from export.checkpoint import read_network
    from export.publish_checkpoint import export_bundle

    assert options.checkpoint is not None
    assert options.vocabulary is not None
    labels = options.class_labels or ("Negative", "Positive")
    network = read_network(options.checkpoint, options.vocabulary, labels)
    return export_bundle(network, options.out, torchscript=torchscript, force=force, on_report=console.print)


def _export_transformer(
    options: ExportOptions, console: Console, *, torchscript: bool, force: bool
) -> Bundle:
    from export.publish_transformer import TransformerOptions, export_transformer

    assert options.transformer is not None
    with console.status("exporting the transformer"):
        return export_transformer(
            options.transformer,
            options.out,
            TransformerOptions(
                options.long_texts,
                options.max_length,
                options.quantize or "float32",
                options.class_labels,
                _calibration(options),
            ),
            torchscript=torchscript,
            force=force,
            on_report=console.print,
        )


def _calibration(options: ExportOptions) -> LabelledTexts | None:
    if options.calibration is None:
        return None
    return read_labelled(LabelledSource(options.calibration, options.text, options.label, None))
