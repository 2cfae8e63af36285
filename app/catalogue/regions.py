"""Where the regions keep data and compute. Source: the founding document's section on deployment modes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.catalogue.model import RegionName

DeploymentMode = Literal["mainland_china", "international"]


@dataclass(frozen=True, slots=True)
class RegionFacts:
    deployment_mode: DeploymentMode
    storage: str
    storage_zh: str
    inference: str
    inference_zh: str
    console: str


REGION_FACTS: Mapping[RegionName, RegionFacts] = {
    "beijing": RegionFacts(
        deployment_mode="mainland_china",
        storage="Beijing",
        storage_zh="北京地域",
        inference="Mainland China only",
        inference_zh="仅限于中国内地",
        console="https://bailian.console.aliyun.com/?tab=model#/api-key",
    ),
    "singapore": RegionFacts(
        deployment_mode="international",
        storage="Singapore",
        storage_zh="新加坡地域",
        inference="Anywhere in the world except mainland China",
        inference_zh="全球范围内动态调度（不含中国内地）",
        console="https://modelstudio.console.aliyun.com/?tab=dashboard#/api-key",
    ),
}
