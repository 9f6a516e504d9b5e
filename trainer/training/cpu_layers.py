"""A network in training, with layers that TensorFlow computes faster on processors; the same weights."""

from __future__ import annotations

from typing import Any

import keras


def with_cpu_layers(network: keras.Model) -> keras.Model:
    """Return a network that learns as `network` does, weights in the same order; on another backend itself."""
    if keras.backend.backend() != "tensorflow":
        return network
    return keras.models.clone_model(network, clone_function=_exchanged)


def _exchanged(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        return _FusedBatchNormalization.from_config(config)
    if isinstance(layer, keras.layers.DepthwiseConv2D) and layer.strides != (1, 1):
        # With bfloat16 the gradient of its input takes ten times as long.
        return keras.layers.DepthwiseConv2D.from_config({**config, "dtype": "float32"})
    return layer.__class__.from_config(config)


class _FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # keras has no types
    """Normalises by batch in one operation where Keras uses a dozen, each of which passes through memory."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or mask is not None or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, self.gamma, self.beta, epsilon=self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return outputs
