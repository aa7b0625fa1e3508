"""Checks that any objective and any method must pass, for the package's own and for other people's.

    from trueup.testing import check_method, check_objective

    check_objective(MyLoss(beta=0.1), at_reference=math.log(2))
    check_method(discover.find("my_method.py"), tmp_path)

Both raise AssertionError with a message that names what failed. Objectives are checked in float64 on
networks of a few hundred parameters; methods are trained for four steps on a random decoder.
"""

from trueup.testing.methods import check_method, tiny_config
from trueup.testing.objectives import check_documented, check_objective, gradient_of, minibatch

__all__ = ["check_documented", "check_method", "check_objective", "gradient_of", "minibatch", "tiny_config"]
